"""`make pictures`: draws the pictures of README.md and ARCHITECTURE.md anew, between their marks.

In Mermaid, which code hosts draw. The stack is what compose renders, without anybody's settings; the schema
is the written one of the newest revision, which a test holds equal to the catalog of a migrated database.
"""

import json
import os
import re
import subprocess
from pathlib import Path

from dev.pictures import schema, stack

PAGES = {"README.md": ["stack"], "ARCHITECTURE.md": ["stack", "schema"]}
PLACE = r"(?s)(<!-- picture of the {}: make pictures -->\n).*?(<!-- end of the picture -->\n)"


def draw_stack() -> str:
    """Rendered with the defaults: neither .env nor the shell's variables of this project count."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME", "DOCKER_CONFIG") if name in os.environ}
    command = ["docker", "compose", "--env-file", os.devnull, "-f", "compose.yml"]
    command += ["config", "--format", "json"]
    done = subprocess.run(command, env=kept, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"nexus: compose cannot render compose.yml: {done.stderr.strip().splitlines()[-1]}")
    return _fenced(stack.diagram(json.loads(done.stdout)))


def draw_schema() -> str:
    newest = max(Path("db/schema").glob("*.txt"))
    caption = f"Revision {newest.stem}; [{newest}]({newest}) has its types, checks and indexes too."
    return f"{caption}\n\n{_fenced(schema.diagram(newest.read_text()))}"


def _fenced(picture: str) -> str:
    return f"```mermaid\n{picture}\n```\n"


def drawn(path: Path, pictures: dict[str, str]) -> str:
    """The text of a page with its pictures as they should be; SystemExit if one of them has no place."""
    text = path.read_text()
    for name in PAGES[str(path)]:
        # Escaped: a picture may hold what re would take for a group.
        picture = pictures[name].replace("\\", r"\\")
        text, count = re.subn(PLACE.format(name), rf"\g<1>{picture}\g<2>", text)
        if count != 1:
            raise SystemExit(f"nexus: {path} has lost the marks of its picture: git diff {path}")
    return text


def main() -> None:
    pictures = {"stack": draw_stack(), "schema": draw_schema()}
    # All of them first: a fault in one page leaves the others as they were.
    pages = {path: drawn(path, pictures) for path in map(Path, PAGES)}
    for path, text in pages.items():
        changed = text != path.read_text()
        if changed:
            path.write_text(text)
        print(f"nexus: {path}: {'drawn anew' if changed else 'as it was'}")


if __name__ == "__main__":
    main()
