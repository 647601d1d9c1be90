"""The directive ``program-output``: a command line of this package and what it prints, run when the
site is built."""

import contextlib
import io
import os
import shlex

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from cython_sparseops._cli.main import main


class ProgramOutput(SphinxDirective):
    required_arguments = 1
    final_argument_whitespace = True

    def run(self):
        program, *arguments = shlex.split(self.arguments[0])
        if program != "sparseops":
            raise self.error(f"the program must be sparseops, got {program}")
        os.environ["COLUMNS"] = "96"
        os.environ["NO_COLOR"] = "1"
        output = io.StringIO()
        with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
            main(arguments)
        if not output.getvalue():
            raise self.error(f"{self.arguments[0]} printed nothing")
        text = f"$ {self.arguments[0]}\n{output.getvalue().rstrip()}"
        return [nodes.literal_block(text, text, language="console")]


def setup(app):
    app.add_directive("program-output", ProgramOutput)
    return {"parallel_read_safe": True}
