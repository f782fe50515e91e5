"""What is wrong with a requirements.txt, line by line, as pip would read it inside the unpacked zip."""

import posixpath
import re
import shlex

from packaging.requirements import InvalidRequirement, Requirement

FILE = "requirements.txt"
FLAGS = {"--pre", "--prefer-binary", "--no-index", "--require-hashes"}
WITH_VALUE = {"--index-url", "--extra-index-url", "--no-binary", "--only-binary", "--trusted-host", "--use-feature"}
WITH_FILE = {"--requirement", "--constraint"}
SHORT = {"-i": "--index-url", "-f": "--find-links", "-r": "--requirement", "-c": "--constraint", "-e": "--editable"}
URL = re.compile(r"^(https?|ftp|(git|hg|svn|bzr)(\+(https?|ssh|git|svn))?)://\S+$", re.IGNORECASE)
HASH = re.compile(r"^(sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128})$", re.IGNORECASE)
ARCHIVE = re.compile(r"\.(whl|zip|tar\.gz|tgz|tar\.bz2|tar\.xz)$", re.IGNORECASE)


def requirement_findings(source, names):
    try:
        text = source.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        return [finding("BadEncoding", source.count(b"\n", 0, error.start) + 1, "is not UTF-8", "Save it as UTF-8.")]
    known = set(names)
    return [found for number, line in logical_lines(text) for found in line_findings(number, line, known)]


def finding(code, line, says, fix):
    return {"code": code, "file": FILE, "line": line, "message": f"`{FILE}`, line {line}: {says}.", "fix": fix}


def logical_lines(text):
    """(number of the first physical line, line) with continuations joined, comments and empty lines left out."""
    joined, start = [], None
    for number, line in enumerate(re.split(r"\r\n|\r|\n", text) + [""], 1):
        start = start or number
        comment = line.lstrip().startswith("#")
        if line.endswith("\\") and not comment:
            joined.append(line[:-1])
            continue
        whole = re.sub(r"(^|\s)#.*$", "", "".join(joined + ["" if comment else line])).strip()
        if whole:
            yield start, whole
        joined, start = [], None


def line_findings(number, line, names):
    try:
        fault = option_fault(line, names) if line.startswith("-") else requirement_fault(line, names)
    except (RecursionError, MemoryError):
        fault = (f"{shown(line)} is nested too deeply to be read", "Simplify the line.")
    return [finding("BadRequirement", number, *fault)] if fault else []


def option_fault(line, names):
    try:
        words = shlex.split(line)
    except ValueError as error:
        return f"{shown(line)} cannot be read: {str(error).lower()}", "Close the quotation."
    while words:
        option, value = option_and_value(words.pop(0))
        if option in FLAGS and value is None:
            continue
        if option not in WITH_VALUE | WITH_FILE | {"--find-links", "--editable"}:
            return f"{shown(option)} is not an option that can be used here", "Remove it; options for indexes, `-r`, `-c`, `--pre` and the choice of binaries are understood."
        value = value or (words.pop(0) if words else None)
        if not value:
            return f"`{option}` has no value", f"Write `{option} <value>`."
        if fault := value_fault(option, value, names):
            return fault
    return None


def option_and_value(word):
    if word.startswith("--"):
        option, equals, value = word.partition("=")
        return option, value if equals else None
    return SHORT.get(word[:2], word), word[2:].removeprefix("=") or None


def value_fault(option, value, names):
    if option in WITH_FILE and not URL.match(value) and inside(value) not in names:
        return f"{shown(value)} is not in the zip", "Add that file to the zip, or remove the line."
    if option == "--find-links" and not URL.match(value) and not holds(value, names):
        return f"{shown(value)} is not a folder in the zip", "Add the folder to the zip, or give a URL."
    if option == "--editable":
        return editable_fault(value, names)
    return None


def editable_fault(value, names):
    if is_project(value.partition("[")[0], names):
        return None
    if URL.match(value):
        return "a repository cannot be installed as editable", "Write `name @ git+https://…` without `-e`."
    return f"{shown(value)} is not a Python project in the zip", "Add the project to the zip, or name the package as it is called on its index."


def requirement_fault(line, names):
    requirement, *options = re.split(r"\s+(?=--?[A-Za-z])", line)
    for option in options:
        if fault := per_requirement_fault(option):
            return fault
    if URL.match(requirement.partition(" ")[0]):
        return None
    if looks_local(requirement):
        return local_fault(re.split(r"\s|;|\[", requirement)[0], names)
    try:
        parsed = Requirement(requirement)
    except InvalidRequirement as error:
        reason = str(error).splitlines()[0].strip().rstrip(".")
        return f"{shown(requirement)} is not a requirement ({reason})", hint(requirement)
    if parsed.url and not URL.match(parsed.url):
        return local_fault(parsed.url, names)
    return None


def per_requirement_fault(option):
    name, value = re.match(r"(\S+?)(?:[=\s]\s*(.*))?$", option).groups()
    if name in ("--config-settings", "--config-setting", "-C", "--global-option"):
        return None
    if name != "--hash":
        return f"{shown(name)} cannot follow a requirement", "Put it on a line of its own, or remove it."
    if not HASH.match(value or ""):
        return f"{shown(value or '')} is not a hash", "Write `--hash=sha256:` and 64 hexadecimal digits, as `pip hash` prints it."
    return None


def looks_local(requirement):
    path = re.split(r"\s|;|\[", requirement)[0]
    return path.startswith((".", "/", "~", "file:")) or "\\" in path or "@" not in requirement and ("/" in path or bool(ARCHIVE.search(path)))


def local_fault(path, names):
    if (ARCHIVE.search(path) and inside(path) in names) or is_project(path, names):
        return None
    return f"{shown(path)} is not a package in the zip", "Add the wheel or the project to the zip and name it as `./name`, or name the package as it is called on its index."


def inside(path):
    """The path within the zip; None when it leads out of it."""
    normal = posixpath.normpath(path)
    return None if normal.startswith(("/", "..")) or ":" in normal or "\\" in normal else normal


def holds(path, names):
    folder = inside(path)
    return folder == "." or folder is not None and any(name.startswith(folder + "/") for name in names)


def is_project(path, names):
    folder = inside(path)
    return folder is not None and any(posixpath.normpath(f"{folder}/{file}") in names for file in ("pyproject.toml", "setup.py"))


def hint(requirement):
    if re.search(r"[^=<>!~]=[^=]", requirement):
        return "Write `==` for an exact version."
    if re.match(r"^[A-Za-z0-9._-]+\s+v?\d", requirement):
        return "Put `==` between the name and the version."
    return "Write a name and, if wanted, versions: `requests>=2.31`."


def shown(text):
    return f"`{text if len(text) <= 120 else text[:120] + '…'}`"
