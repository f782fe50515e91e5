import json
import re
from pathlib import Path
from unittest import TestCase, main as run_tests

from serving import Serving

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


class Examples(TestCase):
    def serve(self, name, **environment):
        folder = EXAMPLES / name
        files = {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        user_config = {"user-config.json": json.dumps(environment.pop("user_config", {}))}
        serving = Serving({**files, **user_config}, LAMBDA_USER_CONFIG="user-config.json", **environment)
        self.addCleanup(serving.__exit__)
        return serving.ready()

    def test_hello_greets_whom_it_is_told_or_the_world(self):
        serving = self.serve("hello")
        self.assertEqual(serving.ask(body={"name": "Ada"}).json(), {"hello": "Ada"})
        for body in (None, b"", {}):
            self.assertEqual(serving.ask(body=body).json(), {"hello": "world"})

    def test_with_routes_keeps_notes_and_serves_its_page(self):
        serving = self.serve("with-routes")
        self.assertEqual(serving.ask("POST", "/notes", "read").json(), {"id": 2})
        self.assertEqual(serving.ask("GET", "/notes?page=2&page_size=1").json(), {"notes": [{"id": 2, "text": "read"}]})
        self.assertEqual(serving.ask("DELETE", "/notes/2").status, 204)
        self.assertEqual(serving.ask("GET", "/notes/2").status, 404)
        self.assertIn("<title>Notes</title>", serving.ask("GET", "/static/index.html").text)

    def test_with_context_greets_in_the_configured_language_and_counts(self):
        serving = self.serve("with-context", user_config={"language": "fr"}, LAMBDA_ID="L")
        self.assertEqual(serving.ask().json(), {"greeting": "Bonjour"})
        page = serving.ask("GET", "/lambda_metrics").text
        self.assertIn('greetings_total{lambda_id="L",language="fr"} 1.0', page)
        serving.terminate()
        self.assertEqual(serving.exit_code(), 0)
        self.assertRegex(serving.log, r"INFO farewell$")

    def test_with_docs_does_what_its_documents_say(self):
        serving = self.serve("with-docs")
        self.assertEqual(serving.ask(body={"numbers": [1, 2, 6]}).json(), {"mean": 3.0})
        self.assertEqual(serving.ask(body={"numbers": []}).status, 400)
        for name in ("lambda.html", "lambda.yml"):
            self.assertTrue((EXAMPLES / "with-docs/docs" / name).is_file())

    def test_with_requirements_pins_what_it_imports(self):
        folder = EXAMPLES / "with-requirements"
        name = re.fullmatch(r"(\w+)==[\d.]+\n", (folder / "requirements.txt").read_text()).group(1)
        self.assertIn(f"import {name}\n", (folder / "lambda_main.py").read_text())

    def test_each_has_a_readme_of_three_lines_that_says_how_to_call_it(self):
        for folder in EXAMPLES.iterdir():
            lines = (folder / "README.md").read_text().splitlines()
            self.assertEqual(len(lines), 3, folder.name)
            self.assertTrue(lines[2].startswith("Call it: `curl "), folder.name)


if __name__ == "__main__":
    run_tests()
