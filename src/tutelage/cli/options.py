"""Options that several commands share."""

from typing import Annotated

import typer

RecipeFile = Annotated[str | None, typer.Argument(help="A recipe (YAML); the options win over it.", show_default=False)]
Student = Annotated[str | None, typer.Option("--student", help="The student: MODEL[@WEIGHTS].", show_default=False)]
Teachers = Annotated[
    list[str] | None,
    typer.Option("--teacher", help="A teacher: [NAME=]MODEL[@WEIGHTS]; may be repeated.", show_default=False),
]
Data = Annotated[
    str | None, typer.Option("--data", help="A folder or a name, see `tutelage list data`.", show_default=False)
]
Out = Annotated[str, typer.Option("--out", help="The run folder, which is made.")]
Task = Annotated[str | None, typer.Option("--task", help="The task, see `tutelage list tasks`.", show_default=False)]
Set = Annotated[
    list[str] | None, typer.Option("--set", help="key.sub=value of the recipe; may be repeated.", show_default=False)
]
Seeds = Annotated[
    int | None, typer.Option("--seeds", help="How many seeds; 3 or more for a firm verdict.", show_default=False)
]
NoBaseline = Annotated[bool, typer.Option("--no-baseline", help="Do not train the matched baseline: no verdict.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")]
Force = Annotated[bool, typer.Option("--force", help="Go on with a teacher near chance.")]
AllowImport = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-import",
        help="A package from which models and parts may be imported; may be repeated.",
        show_default=False,
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
