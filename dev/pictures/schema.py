"""The written schema of a revision (db/schema) as an entity diagram in Mermaid.

A line of a kind that is not known here stops it: a picture that leaves something out in silence is wrong.
"""

import re
from dataclasses import dataclass, field

#: Mermaid takes one word for a type.
SHORT = {"timestamp with time zone": "timestamptz"}

_COLUMN = re.compile(r"column (\w+) ([a-z_ ]+?)( NOT NULL)?(?: DEFAULT .*)?")
_KEY = re.compile(r"constraint \w+ (PRIMARY KEY|UNIQUE) \(([\w, ]+)\)")
_REFERENCE = re.compile(r"constraint \w+ FOREIGN KEY \((\w+)\) REFERENCES (\w+)\(id\)( ON DELETE CASCADE)?")
#: What the picture has no room for; the written schema has it.
_LEFT_OUT = re.compile(r"constraint \w+ CHECK .*|index .*")


@dataclass
class Reference:
    """A foreign key: its column, the table it leads to, whether a row goes with the row it refers to."""

    column: str
    table: str
    cascades: bool


@dataclass
class Table:
    """A table: types by column, the columns that may be null, its keys, where it refers to."""

    name: str
    columns: dict[str, str] = field(default_factory=dict)
    optional: set[str] = field(default_factory=set)
    primary: list[str] = field(default_factory=list)
    unique: list[list[str]] = field(default_factory=list)
    references: list[Reference] = field(default_factory=list)

    def read(self, line: str) -> None:
        """A line of the written schema; ValueError if nobody knows what it means."""
        if match := _COLUMN.fullmatch(line):
            self.columns[match[1]] = SHORT.get(match[2], match[2])
            self.optional |= set() if match[3] else {match[1]}
        elif match := _KEY.fullmatch(line):
            columns = match[2].split(", ")
            self.unique.append(columns)
            self.primary = columns if match[1] == "PRIMARY KEY" else self.primary
        elif match := _REFERENCE.fullmatch(line):
            self.references.append(Reference(match[1], match[2], bool(match[3])))
        elif not _LEFT_OUT.fullmatch(line):
            raise ValueError(f"table {self.name}: the picture does not know how to show: {line}")

    def entity(self) -> list[str]:
        """Its box: type, name, keys and whether it may be null, a line for each column."""
        foreign = {reference.column for reference in self.references}
        lines = []
        for name, kind in self.columns.items():
            keys = ["PK"] * (name in self.primary) + ["FK"] * (name in foreign)
            note = ' "or null"' if name in self.optional else ""
            lines.append(f"        {kind} {name} {', '.join(keys)}".rstrip() + note)
        return [f"    {self.name} {{", *lines, "    }"]

    def relations(self) -> list[str]:
        """A line for each reference: from one row there to how many here."""
        lines = []
        for each in self.references:
            one = "|o" if each.column in self.optional else "||"
            many = "o|" if [each.column] in self.unique else "o{"
            line = "--" if each.cascades else ".."
            lines.append(f"    {each.table} {one}{line}{many} {self.name} : {each.column}")
        return lines


def tables(written: str) -> list[Table]:
    """The tables of a written schema. Its types are named in the columns, and listed nowhere else."""
    found = []
    for section in written.strip().split("\n\n"):
        heading, *lines = section.split("\n")
        kind, name = heading.split()
        if kind == "table":
            found.append(Table(name))
            for line in lines:
                found[-1].read(line.strip())
    return found


def diagram(written: str) -> str:
    """The picture, as Mermaid's text."""
    found = tables(written)
    boxes = [line for table in found for line in table.entity()]
    lines = sorted((line for table in found for line in table.relations()), reverse=True)
    # Those first that refer to nobody, then by name: like this Mermaid's layout crosses no line. Looked at.
    refers = {table.name: bool(table.references) for table in found}
    lines.sort(key=lambda line: (refers[line.split()[0]], line.split()[0]))
    return "\n".join(["erDiagram", *lines, *boxes])
