# Says as JSON what the handler's module is and which packages it needs. The argument is the project's folder.
import ast
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

tools = manifest.get("tool", {})
project = manifest.get("project", {})
packages = list(project.get("dependencies", []))


def refuse(where, why):
    sys.exit(f"pyproject.toml: {where}: {why}: name the packages in `dependencies` of [project], as pip has them")


def bounds(where, version):
    """Poetry's form of versions as pip has it."""
    parts = []
    for part in (each.strip() for each in version.split(",")):
        if part in ("", "*"):
            continue
        found = re.fullmatch(r"([\^~]?)(\d+(?:\.\d+)*)", part)
        if found and not found[1]:
            parts.append(f"=={part}")
        elif found:
            numbers = [int(number) for number in found[2].split(".")]
            if found[1] == "~":
                kept = min(len(numbers), 2)
            else:  # up to the first number that is not zero
                kept = next((at + 1 for at, number in enumerate(numbers) if number), len(numbers))
            above = numbers[: kept - 1] + [numbers[kept - 1] + 1]
            parts.append(f">={found[2]},<{'.'.join(map(str, above))}")
        elif re.fullmatch(r"(==|!=|<=|>=|<|>|~=)\s*[\w.*+!-]+", part):
            parts.append(part)
        elif re.fullmatch(r"\d+(\.\d+)*\.\*", part):
            parts.append(f"=={part}")
        else:
            refuse(where, f"the version {part!r} is not understood")
    return ",".join(parts)


listed = tools.get("poetry", {}).get("dependencies", {})
if not packages:
    for name, wanted in listed.items():
        where = f"`{name}` of [tool.poetry.dependencies]"
        if name.lower() == "python":
            continue
        extras = ""
        if isinstance(wanted, dict):
            others = set(wanted) - {"version", "extras", "optional"}
            if wanted.get("optional"):
                continue
            if others or "version" not in wanted:
                refuse(where, f"{', '.join(sorted(others)) or 'no version'} cannot be taken over")
            extras = f"[{','.join(wanted['extras'])}]" if wanted.get("extras") else ""
            wanted = wanted["version"]
        if not isinstance(wanted, str):
            refuse(where, "several versions cannot be taken over")
        packages.append(f"{name}{extras}{bounds(where, wanted)}")
if tools.get("uv", {}).get("sources"):
    refuse("[tool.uv.sources]", "only uv reads it, and pip would fetch other packages of the same names")
if "dependencies" in project.get("dynamic", []) and not os.path.isfile(os.path.join(folder, "requirements.txt")):
    refuse("`dynamic` of [project]", "the dependencies are elsewhere, and were not read")

if any(re.match(r"pgstream\s*($|[^\w.-])", package) for package in packages):
    sys.exit("pyproject.toml: `pgstream` among the dependencies is another library; that for handlers is in `sdk/`")


def sends_requests(path):
    """Whether a module imports `pgstream.http`: only then the component may ask for the network."""
    try:
        with open(path, encoding="utf-8") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return False  # the build itself says what is wrong
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.level == 0:
            if node.module == "pgstream.http" or (
                node.module == "pgstream" and any(alias.name == "http" for alias in node.names)
            ):
                return True
        if isinstance(node, ast.Import) and any(alias.name == "pgstream.http" for alias in node.names):
            return True
    return False


LEFT = {"sdk", "wit", "tests", "venv", "node_modules", "__pycache__"}
http = False
for where, folders, files in os.walk(folder):
    folders[:] = [name for name in folders if name not in LEFT and not name.startswith(".")]
    http = http or any(sends_requests(os.path.join(where, name)) for name in files if name.endswith(".py"))
print(json.dumps({"module": module, "dependencies": packages, "http": http}))
