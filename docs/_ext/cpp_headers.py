"""The directive ``cpp-headers``: the reference of the public headers, read from them.

A declaration at namespace level and the comment above it make one entry; declarations without a
blank line between them share the comment. Sphinx's C++ domain parses the declarations, so a form
that it does not know ends the build. Comments are plain text; lines that are set in stay as they
are. Bodies and private members are left out.
"""

import re
from pathlib import Path

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

HEADERS = Path(__file__).resolve().parents[2] / "src" / "sparseops"
FIRST = ("types", "hierarchy", "hsoftmax")
FORWARD = re.compile(r"(?:struct|class) \w+;\s*\Z")  # described by the header that defines it


def split(text):
    """The comment at the top of a header, and (comment, declaration) of all that it declares; the
    declaration is empty where a comment stands alone."""
    text = re.sub(r"\A// SPDX-License-Identifier: .*\n", "", text)
    top = re.match(r"(?://.*\n)+", text)
    body = re.search(r"^namespace sparseops \{\n(.*)^\}  // namespace", text, re.M | re.S)
    if not top or not body:
        raise ValueError("a header must begin with a comment and have one namespace sparseops")
    entries, comment, code, used = [], [], [], True
    for line in body[1].splitlines():
        if not code and line.startswith("//"):
            comment, used = ([], False) if used else (comment, used)
            comment.append(line)
        elif not code and not line.strip():
            if not used:
                entries.append((plain(comment), ""))
            comment, used = [], True
        else:
            code.append(line)
            bare = re.sub(r"//.*", "", "\n".join(code))
            closed = all(bare.count(a) == bare.count(b) for a, b in ("{}", "()"))
            if closed and bare.rstrip().endswith((";", "}")):
                if not FORWARD.match(bare):
                    entries.append((plain(comment), "\n".join(code)))
                code, used = [], True
    if code:
        raise ValueError(f"a declaration does not end: {code[0]}")
    return plain(top[0].splitlines()), entries


def plain(lines):
    return "\n".join(re.sub(r"^// ?(?:---- ?)?", "", line) for line in lines)


def head(code):
    """A declaration up to its body, on one line, without comments and initialisers of members."""
    text = re.sub(r"\s+", " ", re.sub(r"//.*", "", code)).strip()
    depth = 0
    for i, c in enumerate(text):
        depth += (c in "(") - (c in ")")
        if depth == 0 and c in ";{":
            return text[:i].strip()
    return text


def signature(code):
    """The directive of a declaration and its argument."""
    text = head(code)
    template = re.match(r"template <.*?> (?=concept|struct|class|enum|[\w:]+[<\w ])", text)
    prefix = template[0] if template else ""
    rest = text[len(prefix) :]
    kind, _, name = rest.partition(" ")
    if kind == "enum":
        return "enum-class", name.removeprefix("class ")
    if kind in ("struct", "class", "concept"):
        return kind, prefix + re.match(r"\w+", name)[0]
    rest = re.sub(r"^(?:(?:inline|constexpr) )+", "", rest)
    return "var" if re.match(r"[^(]* = ", rest) else "function", prefix + rest


def outline(code):
    """A type without private members and bodies of functions."""
    code = re.sub(r"\n*^private:\n(?:.*\n)*?(?=^\};|^public:)", "\n", code, flags=re.M)
    words = r"(?: const| noexcept| requires\([^{]*\))*"
    function = rf"\)({words}) \{{(?: .* \}}|\n(?:.*\n)*?    \}})( +//.*)?$"
    return re.sub(
        function, lambda m: f"){m[1]};{'  ' + m[2].strip() if m[2] else ''}", code, flags=re.M
    )


class CppHeaders(SphinxDirective):
    def run(self):
        headers = sorted(path for path in HEADERS.glob("*.hpp") if path.stem != "sparseops")
        found = {path.stem: path for path in headers}
        return [self.section(found[stem]) for stem in dict.fromkeys([*FIRST, *found])]

    def section(self, path):
        self.env.note_dependency(str(path))
        top, entries = split(path.read_text(encoding="utf-8"))
        section = nodes.section("", nodes.title("", path.name), ids=[nodes.make_id(path.name)])
        section += [*paragraphs(top), literal(f"#include <sparseops/{path.name}>")]
        for comment, code in entries:
            if code:
                section += self.entry(path, comment, code)
            else:
                section += paragraphs(comment[:1].upper() + comment[1:])
        return section

    def entry(self, path, comment, code):
        kind, text = signature(code)
        content = StringList([f".. cpp:{kind}:: {text}"], source=str(path))
        node = nodes.container()
        self.state.nested_parse(content, 0, node)
        described = list(node.findall(lambda n: n.tagname == "desc_content"))
        if len(described) != 1 or not list(node.findall(lambda n: n.tagname == "desc_name")):
            raise self.error(f"{path.name}: cannot read the declaration: {text}")
        described[0] += paragraphs(comment)
        if kind != "function":
            described[0] += literal(outline(code))
        return node.children


def literal(text, language="cpp"):
    return nodes.literal_block(text, text, language=language)


def paragraph(text):
    """Text, with `names` as code."""
    node = nodes.paragraph()
    for i, part in enumerate(text.split("`")):
        node += nodes.literal(part, part) if i % 2 else nodes.Text(part)
    return node


def paragraphs(text):
    """Plain text as paragraphs; lines that are set in stay as they are."""
    out, run, set_in = [], [], False

    def end():
        if run:
            text = "\n".join(run)
            out.append(literal(text, "none") if set_in else paragraph(text))
        run.clear()

    for line in [*text.splitlines(), ""]:
        if not line.strip() or line.startswith("  ") != set_in:
            end()
            set_in = line.startswith("  ")
        if line.strip():
            run.append(line)
    return out


def setup(app):
    app.add_directive("cpp-headers", CppHeaders)
    return {"parallel_read_safe": True}
