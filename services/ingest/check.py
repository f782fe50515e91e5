"""The checker: answers questions about Python files, one JSON object a line, for as long as its input is open.

Hears {id, lambda_main, requirements, names, binaries, wheels, target}, where file contents are base64 (they may be in any
encoding, or in none), and answers {id, findings}. It never imports or runs what it checks. Trouble with one request is an
answer to that request; only what kills a process (a stack overflow in C) ends it, and then it is started again.
"""

import base64
import json
import sys
import warnings

from check_main import main_findings
from check_platform import binary_findings, target_facts, wheel_findings
from check_requirements import requirement_findings

MOST_MEMORY_BYTES = 2 * 1024**3


def findings_of(request):
    facts = target_facts(request["target"])
    findings = []
    if request["lambda_main"] is not None:
        findings += guarded("lambda_main.py", main_findings, base64.b64decode(request["lambda_main"]))
    if request["requirements"] is not None:
        text = base64.b64decode(request["requirements"])
        findings += guarded("requirements.txt", requirement_findings, text, request["names"])
    for binary in request["binaries"]:
        head = base64.b64decode(binary["head_base64"])
        findings += guarded(binary["name"], binary_findings, binary["name"], head, facts)
    for name in request["wheels"]:
        findings += guarded(name, wheel_findings, name, facts)
    return findings


def guarded(file, check, *arguments):
    try:
        return check(*arguments)
    except (RecursionError, MemoryError):
        return [{
            "code": "TooDeeplyNested",
            "file": file,
            "message": f"`{file}` is nested too deeply, or too large, to be read.",
            "fix": "Split long expressions and deeply nested brackets, and keep data in a file of its own.",
        }]


def bound_memory():
    """A file that eats memory becomes a MemoryError here rather than a killed neighbour."""
    try:
        import resource
        resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY_BYTES, MOST_MEMORY_BYTES))
    except (ImportError, ValueError, OSError):
        pass  # Windows and macOS do not have it; the time limit still holds.


def answer(line):
    request = json.loads(line)
    try:
        return {"id": request["id"], "findings": findings_of(request)}
    except Exception as error:
        return {"id": request["id"], "error": f"{type(error).__name__}: {error}"}


def serve():
    bound_memory()
    warnings.simplefilter("ignore")  # What a file's compilation warns of is its author's business.
    target_facts(None)  # Finding out the tags takes a few milliseconds, once.
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin.buffer:
        print(json.dumps(answer(line)), flush=True)


if __name__ == "__main__":
    serve()
