"""Serves the lambda_main.py of the current folder: `python run.py [--host H] [--port P] [--workers N]`."""

from argparse import ArgumentParser

from luna_lambda_tools.public.run import run


def ask_the_command_line():
    """The options that were given, by name; what was left out stays with the environment."""
    parser = ArgumentParser(description="Serve the lambda_main.py of the current folder.")
    parser.add_argument("--host", help="address to listen on (LAMBDA_HOST, 0.0.0.0)")
    parser.add_argument("--port", help="port to listen on, 0 takes a free one (LAMBDA_PORT, 8000)")
    parser.add_argument("--workers", help="how many processes serve (LAMBDA_WORKERS, 1)")
    return vars(parser.parse_args())


if __name__ == "__main__":
    run(lambdaType="standalone", **ask_the_command_line())
