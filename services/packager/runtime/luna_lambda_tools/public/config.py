"""The configuration file that travels inside the zip."""

import json
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path


def read_yaml(text):
    # Most lambdas have no YAML file; they should not pay for the import.
    import yaml

    return yaml.safe_load(text)


READERS = {"lambda_config.json": json.loads, "lambda_config.yml": read_yaml}


class LambdaConfig(Mapping):
    """The contents of `lambda_config.json`, or else `lambda_config.yml`, as a read-only mapping.

    The file lies beside lambda_main.py and is read at the first access.
    Raises FileNotFoundError when neither is there, ValueError when the file is no mapping, KeyError as a dict does.
    """

    @cached_property
    def _values(self):
        for name, read in READERS.items():
            path = Path(name)
            if path.is_file():
                return self._checked(name, read(path.read_text(encoding="utf-8")))
        raise FileNotFoundError(f"lambdaConfig needs {' or '.join(READERS)} beside lambda_main.py; the zip has neither")

    @staticmethod
    def _checked(name, values):
        if not isinstance(values, dict):
            raise ValueError(f"{name} must hold a mapping, not {type(values).__name__}")
        return values

    def __getitem__(self, key):
        return self._values[key]

    def __iter__(self):
        return iter(self._values)

    def __len__(self):
        return len(self._values)


lambdaConfig = LambdaConfig()
