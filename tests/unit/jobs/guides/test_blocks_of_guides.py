"""The parser of a guide's blocks: fences, what is said of them, commands, links."""

from __future__ import annotations

import pytest

from tests.guides.blocks import Block, anchors_of, blocks_of, commands_of, inline_code, links_of, prose_of

TEXT = """\
# Title

Some `inline.code`, and `code on
two lines`.

<!-- file: job.toml -->
```toml
[model]
```

1. In a list:

   <!-- not run: needs a bucket -->
   ```sh
   slotcar score job.toml
     --json
   ```

```
`not.inline` [no](link.md)
```

See [there](there.md#part), [here](https://example.org) and ![a picture](picture.svg).

## A part: of `it`
"""


def test_a_block_has_its_line_its_language_and_what_is_said_of_it() -> None:
    assert blocks_of(TEXT) == [
        Block(7, "toml", "[model]\n", file="job.toml"),
        Block(14, "sh", "slotcar score job.toml\n  --json\n", not_run="needs a bucket"),
        Block(19, "", "`not.inline` [no](link.md)\n"),
    ]


def test_what_stands_outside_of_blocks_is_prose() -> None:
    assert inline_code(TEXT) == ["inline.code", "code on two lines", "it"]
    assert links_of(TEXT) == ["there.md#part", "https://example.org"]
    assert anchors_of(TEXT) == {"title", "a-part-of-it"}
    assert "not run" not in prose_of(TEXT)


def test_a_block_without_an_end_is_refused() -> None:
    with pytest.raises(ValueError, match="in line 2 has no end"):
        blocks_of("text\n```sh\nls\n")


def test_commands_are_split_as_a_shell_would() -> None:
    text = 'slotcar plan job.toml --simulate "replicas=1,10 deaths=0.1"  # why\n\nls \\\n  scores\n# nothing\n'
    assert commands_of(text) == [
        ["slotcar", "plan", "job.toml", "--simulate", "replicas=1,10 deaths=0.1"],
        ["ls", "scores"],
    ]


@pytest.mark.parametrize("line", ["ls | wc", "cd a && ls", "echo $HOME", "ls > out", "night.sh $(date)"])
def test_what_needs_a_shell_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="needs a shell"):
        commands_of(line)
