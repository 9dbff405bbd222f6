# Says as JSON what the handler's module is and which packages it needs. The argument is the project's folder.
import json
import os
import re
import sys

try:
    import tomllib
except ModuleNotFoundError:  # Python 3.10
    from pip._vendor import tomli as tomllib

folder = sys.argv[1]
try:
    with open(os.path.join(folder, "pyproject.toml"), "rb") as file:
        manifest = tomllib.load(file)
except (OSError, ValueError) as error:
    sys.exit(f"pyproject.toml: {error}")

module = manifest.get("tool", {}).get("pgstream", {}).get("module", "handler")
if not isinstance(module, str) or not all(part.isidentifier() for part in module.split(".")):
    sys.exit(f"pyproject.toml: `module` of [tool.pgstream] is {module!r}, not the name of a module")
path = module.replace(".", "/")
places = [f"{path}.py", f"{path}/__init__.py", f"src/{path}.py", f"src/{path}/__init__.py"]
if not any(os.path.isfile(os.path.join(folder, place)) for place in places):
    sys.exit(f"there is no `{path}.py`: name the handler's module in pyproject.toml, `[tool.pgstream]`, `module`")

packages = manifest.get("project", {}).get("dependencies", [])
if any(re.match(r"pgstream\s*($|[^\w.-])", package) for package in packages):
    sys.exit("pyproject.toml: `pgstream` among the dependencies is another library; that for handlers is in `sdk/`")
print(json.dumps({"module": module, "dependencies": packages}))
