"""A test case whose tests all ask one lambda."""

from unittest import TestCase

from serving import Serving, lambda_of


class Served(TestCase):
    """Subclasses give `code`, or `files`, and what `environment` holds besides."""

    code = ""
    files: dict = {}
    environment: dict = {}

    @classmethod
    def setUpClass(cls):
        cls.serving = Serving({**lambda_of(cls.code), **cls.files}, **cls.environment)
        cls.addClassCleanup(cls.serving.__exit__)
        cls.serving.ready()

    def ask(self, *args, **kwargs):
        return self.serving.ask(*args, **kwargs)

    def assert_problem(self, answer, status, error_code=None):
        """The answer is a problem of that status; returns its detail."""
        self.assertEqual(answer.headers["Content-Type"], "application/problem+json")
        problem = answer.json()
        self.assertEqual((answer.status, problem["status"], problem.get("error_code")), (status, status, error_code))
        self.assertEqual(problem["request_id"], answer.headers["Luna-Request-Id"])
        self.assertTrue(problem["title"])
        self.assertNotIn("Traceback", answer.text)
        self.assertNotIn('File "', answer.text)
        return problem["detail"]
