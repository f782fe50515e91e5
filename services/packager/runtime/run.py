"""Serves the lambda_main.py of the current folder: `python run.py [--host H] [--port P] [--workers N]`."""

import sys

from luna_lambda_tools.public.run import run


def options_given():
    """The options of the command line, by name; what was left out stays with the environment."""
    # kiln gives none, and then the import of argparse would only delay the start.
    if len(sys.argv) == 1:
        return {}
    from argparse import ArgumentParser

    parser = ArgumentParser(description="Serve the lambda_main.py of the current folder.")
    parser.add_argument("--host", help="address to listen on (LAMBDA_HOST, 0.0.0.0)")
    parser.add_argument("--port", help="port to listen on, 0 takes a free one (LAMBDA_PORT, 8000)")
    parser.add_argument("--workers", help="how many processes serve (LAMBDA_WORKERS, 1)")
    return vars(parser.parse_args())


if __name__ == "__main__":
    run(lambdaType="standalone", **options_given())
