"""`parse FILE…`: are these PowerShell? `release DIR`: and does the number in bootstrap.ps1 verify the release's signature?"""
import base64
import hashlib
import pathlib
import re
import sys

import tree_sitter
import tree_sitter_powershell

parser = tree_sitter.Parser(tree_sitter.Language(tree_sitter_powershell.language()))


def errors(node):
    if node.type == "ERROR" or node.is_missing:
        yield f"line {node.start_point[0] + 1}: {node.text[:60]!r}"
    for child in node.children:
        yield from errors(child)


def check(script):
    found = list(errors(parser.parse(script).root_node))
    assert not found, found
    assert list(errors(parser.parse(script + b"\nif ($x {").root_node)), "the parser finds no errors"


verb, *paths = sys.argv[1:]
if verb == "parse":
    for path in paths:
        check(pathlib.Path(path).read_bytes())
    sys.exit()

release = pathlib.Path(paths[0])
script = (release / "bootstrap.ps1").read_bytes()
check(script)
modulus = re.search(rb"^\$release_modulus = '([^']+)'$", script, re.M).group(1)
modulus = int.from_bytes(base64.b64decode(modulus), "big")
signature = int.from_bytes((release / "SHA256SUMS.sig").read_bytes(), "big")
# PKCS #1 1.5: the padded message ends with the digest.
padded = pow(signature, 65537, modulus).to_bytes((modulus.bit_length() + 7) // 8, "big")
digest = hashlib.sha256((release / "SHA256SUMS").read_bytes()).digest()
assert padded.startswith(b"\0\1\xff") and padded.endswith(digest), "another key"
