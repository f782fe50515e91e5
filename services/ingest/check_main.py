"""What is wrong with a lambda_main.py, from its bytes alone."""

import ast
import io
import tokenize

FILE = "lambda_main.py"
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
SHAPE = "`async def main(request):`"


def main_findings(source):
    text, findings = decoded(source)
    if text is None:
        return findings
    try:
        compile(text, FILE, "exec", dont_inherit=True)
        tree = ast.parse(text, FILE)
    except SyntaxError as error:
        return [syntax_finding(error)]
    except ValueError as error:
        return [finding("SyntaxError", f"`{FILE}` cannot be parsed: {error}.", "Correct it; `python -m py_compile lambda_main.py` shows the place.")]
    return definition_findings(tree)


def finding(code, message, fix, line=None, column=None):
    place = {key: value for key, value in (("line", line), ("column", column)) if value}
    return {"code": code, "file": FILE, "message": message, "fix": fix, **place}


def decoded(source):
    """The text, or None and why there is none."""
    if b"\0" in source:
        line, column = place_of(source, source.index(b"\0"))
        return None, [finding("BadEncoding", f"`{FILE}` holds a NUL byte; it may be UTF-16 or no text at all.", "Save it as UTF-8.", line, column)]
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(source).readline)
        return source.decode(encoding), []
    except UnicodeDecodeError as error:
        line, column = place_of(source, error.start)
        return None, [finding("BadEncoding", f"`{FILE}` is not {error.encoding}: byte {column} of line {line} does not fit.", "Save it as UTF-8.", line, column)]
    except SyntaxError:
        return None, [undecodable_start(source)]
    except (LookupError, UnicodeError, ValueError) as error:
        return None, [finding("BadEncoding", f"`{FILE}` declares an encoding that cannot be used: {error}.", "Save it as UTF-8 and remove the declaration.", 1)]


def undecodable_start(source):
    """detect_encoding says neither where nor what; UTF-8 says it when that is the trouble."""
    try:
        source.decode("utf-8")
    except UnicodeDecodeError as error:
        line, column = place_of(source, error.start)
        return finding("BadEncoding", f"`{FILE}` is not UTF-8: byte {column} of line {line} does not fit.", "Save it as UTF-8.", line, column)
    return finding("BadEncoding", f"`{FILE}` declares an encoding that Python does not know.", "Save it as UTF-8 and remove the declaration.", 1)


def place_of(source, index):
    before = source[:index]
    return before.count(b"\n") + 1, index - (before.rfind(b"\n") + 1) + 1


def syntax_finding(error):
    line, column = error.lineno or 1, max(error.offset or 1, 1)
    message = f"`{FILE}` has a syntax error at line {line}, column {column}: {error.msg}."
    return finding("SyntaxError", message, "Correct that line; `python -m py_compile lambda_main.py` shows it too.", line, column)


def definition_findings(tree):
    candidates = bindings(tree.body)
    if not candidates:
        return [finding("NoMain", f"`{FILE}` has no `main` at its top level.", f"Define {SHAPE} there, not inside a class or another function.")]
    faults = [faults_of(candidate) for candidate in candidates]
    return [] if [] in faults else faults[-1]


def bindings(body):
    """The statements that may have given `main` its value when the module has run: later ones win, branches all count."""
    found = []
    for statement in body:
        if not is_definition(statement) and blocks_of(statement):
            found = found + [inner for inner in all_within(statement) if binds_main(inner)]
        elif binds_main(statement):
            found = [statement]
    return found


def all_within(statement):
    """The statement and all in its branches, without recursion: a long chain of `elif` is a deep tree."""
    waiting = [statement]
    while waiting:
        current = waiting.pop()
        yield current
        if not is_definition(current):
            waiting += [inner for block in blocks_of(current) for inner in block]


def is_definition(statement):
    return isinstance(statement, DEFINITIONS + (ast.ClassDef,))


def binds_main(statement):
    return statement.name == "main" if is_definition(statement) else targets_main(statement)


def blocks_of(statement):
    if isinstance(statement, ast.If) and runs_as_script_only(statement.test):
        return [statement.orelse]
    handlers = [handler.body for handler in getattr(statement, "handlers", [])]
    cases = [case.body for case in getattr(statement, "cases", [])]
    own = [getattr(statement, field, None) for field in ("body", "orelse", "finalbody")]
    return [block for block in [*own, *handlers, *cases] if isinstance(block, list) and block]


def runs_as_script_only(test):
    if not isinstance(test, ast.Compare) or len(test.ops) != 1 or not isinstance(test.ops[0], ast.Eq):
        return False
    return {ast.unparse(test.left), ast.unparse(test.comparators[0])} == {"__name__", "'__main__'"}


def targets_main(statement):
    if isinstance(statement, (ast.Import, ast.ImportFrom)):
        return any((alias.asname or alias.name) in ("main", "*") for alias in statement.names)
    if isinstance(statement, ast.AnnAssign) and statement.value is None:
        return False
    heads = [child for child in ast.iter_child_nodes(statement) if isinstance(child, (ast.expr, ast.withitem))]
    names = (node for head in heads for node in ast.walk(head) if isinstance(node, ast.Name))
    return any(name.id == "main" and isinstance(name.ctx, ast.Store) for name in names)


def faults_of(node):
    """None of them when `main` will do, or when only running it could tell: imported, assigned or decorated."""
    if not isinstance(node, DEFINITIONS) or node.decorator_list:
        return []
    at = (node.lineno, node.col_offset + 1)
    faults = []
    if isinstance(node, ast.FunctionDef):
        faults.append(finding("MainNotAsync", f"`main` in `{FILE}` is not `async`.", f"Write {SHAPE}.", *at))
    if not takes_one_argument(node.args):
        faults.append(finding("MainArguments", f"`main` in `{FILE}` cannot be called with the request alone.", f"Write {SHAPE}: one argument that is required, and no other that is.", *at))
    return faults


def takes_one_argument(arguments):
    places = len(arguments.posonlyargs) + len(arguments.args)
    required = places - len(arguments.defaults)
    return required <= 1 and (places >= 1 or arguments.vararg is not None) and None not in arguments.kw_defaults
