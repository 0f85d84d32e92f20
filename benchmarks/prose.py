"""How hard documents are to read: words of the median sentence, and semicolons.

    python benchmarks/prose.py README.md docs/tutorial.md
    python benchmarks/prose.py --revision HEAD~1 README.md      # as the file was in that commit

Prints a row of a Markdown table for each document. Code blocks, tables, headings, images and rules
are left out. A formula, and code between backticks, counts as one word. A link counts by its text.
A sentence ends with a full stop, an exclamation mark, a question mark or a colon. Sentences of
one or two words are not counted.
"""

import argparse
import re
import statistics
import subprocess
from pathlib import Path

LEFT_OUT = re.compile(r"\s*(\||#|!\[|-{3})")  # table, heading, image, rule


def sentences(text: str) -> list[str]:
    """The sentences of a document in Markdown, each on one line."""
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    text = "\n".join(line for line in text.splitlines() if not LEFT_OUT.match(line))
    text = re.sub(r"\$\$?.*?\$\$?", "X", text, flags=re.S)
    text = re.sub(r"`[^`]*`", "X", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    parts = re.split(r"(?<=[.!?:])\s+", " ".join(text.split()))
    return [part for part in parts if len(part.split()) > 2]


def read(file: str, revision: str | None) -> str:
    """The text of a file as it is, or as it was in a commit."""
    if not revision:
        return Path(file).read_text(encoding="utf-8")
    command = ["git", "show", f"{revision}:{file}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the sentences of documents.")
    parser.add_argument("files", nargs="+", metavar="FILE", help="documents in Markdown")
    parser.add_argument("--revision", help="a commit: measure the files as they were in it")
    parser.add_argument("--longest", type=int, default=0, help="also print this many sentences")
    args = parser.parse_args()
    print("| document | words of the median sentence | semicolons | sentences |")
    print("| --- | ---: | ---: | ---: |")
    every = []
    for file in args.files:
        found = sentences(read(file, args.revision))
        every += [(len(sentence.split()), file, sentence) for sentence in found]
        median = statistics.median([len(sentence.split()) for sentence in found] or [0])
        semicolons = sum(sentence.count(";") for sentence in found)
        print(f"| {file} | {median:g} | {semicolons} | {len(found)} |")
    for words, file, sentence in sorted(every, reverse=True)[: args.longest]:
        print(f"{file} ({words} words): {sentence}")


if __name__ == "__main__":
    main()
