"""Builds the compiled parts with the package, where the machine has a C compiler and Python's headers.

Without them the package is installed all the same: serving then answers fewer requests a second (see
`loopwright.serve.rest.arrivals`), and trees take longer (see `loopwright.models.trees`).
"""

import os
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

SOURCES = [
    Path("src/loopwright/serve/rest/_express.c"),
    Path("src/loopwright/serve/_ids.c"),
    Path("src/loopwright/models/_trees.c"),
]
FLAGS = ["-O3", "-fPIC", "-shared", "-D_GNU_SOURCE", "-Wall", "-ffp-contract=off", "-pthread"]


class CompileHook(BuildHookInterface):
    """Compiles each extension module beside its source."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Compile, and mark the wheel as one for this Python and platform; without a compiler, say so and go on."""
        suffix = sysconfig.get_config_var("EXT_SUFFIX")
        for source in SOURCES:
            target = source.with_name(f"{source.stem}{suffix}")
            reason = self._compile(Path(self.root) / source, Path(self.root) / target)
            if reason:
                self.app.display_warning(f"the package goes without its compiled part {source.stem}: {reason}")
                continue
            build_data["infer_tag"], build_data["pure_python"] = True, False
            build_data["artifacts"].append(str(target))

    def _compile(self, source: Path, target: Path) -> str:
        """Why it could not be compiled; empty if it was."""
        compiler = shlex.split(os.environ.get("CC", "")) or ["cc"]
        if sys.platform == "win32" or shutil.which(compiler[0]) is None:
            return f"there is no C compiler {compiler[0]!r}"
        fresh = target.with_name(f".{target.name}.{os.getpid()}")
        command = [*compiler, *FLAGS, f"-I{sysconfig.get_path('include')}", str(source), "-o", str(fresh), "-lm"]
        if sys.platform == "darwin":
            command += ["-undefined", "dynamic_lookup"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            return done.stderr.strip().splitlines()[0] if done.stderr.strip() else f"{compiler[0]} failed"
        fresh.replace(target)  # at once: a process that has the old one open keeps it
        return ""
