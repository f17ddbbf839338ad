"""All else is in pyproject.toml. `TELBRIDGE_COMPILED=1 pip install --no-build-isolation .` compiles what each
frame passes to C (docs/decisions/0015-the-way-of-a-frame-can-be-compiled.md)."""

import os
import tomllib
from pathlib import Path

from setuptools import setup


def extensions():
    if os.environ.get("TELBRIDGE_COMPILED") != "1":
        return []
    from mypyc.build import mypycify  # the extra `compiled`

    project = tomllib.loads(Path("pyproject.toml").read_text("utf-8"))
    modules = project["tool"]["telbridge"]["compiled"]
    return mypycify(
        [name.replace(".", "/") + ".py" for name in modules], group_name="telbridge", opt_level="2"
    )


setup(ext_modules=extensions())
