"""What a new user meets first: help without arguments, near names of commands, and the settings as a file."""

from __future__ import annotations

import click

from nwb_migvis.plain import nearest

FIRST = """Start here:

  nwb-migvis demo                    a simulated session through every step; some ten minutes
  nwb-migvis inspect SESSION.nwb     what would be read: units, images, labels; and the command to type
  nwb-migvis run SESSION.nwb         writes SESSION_migvis.nwb and a page about it
  nwb-migvis report FILE_migvis.nwb  writes the page again

`nwb-migvis --help` lists every command, and `nwb-migvis COMMAND --help` its options.
`nwb-migvis config` prints every setting. `nwb-migvis completion bash` completes names in the shell."""


class Commands(click.Group):
    """Commands that say, for a name that is none, which one was probably meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that the arguments name."""
        if args and not args[0].startswith("-") and self.get_command(ctx, args[0]) is None:
            names = nearest(args[0], self.list_commands(ctx), most=20)
            ctx.fail(f"no command {args[0]!r}; expected one of {names}")
        return super().resolve_command(ctx, args)


@click.command("config")
@click.option("--preset", type=click.Choice(["quick", "paper"]), default="quick", show_default=True)
def config_command(preset: str) -> None:
    """Print every setting as TOML, with what each means: a start for the file that `run --config` takes."""
    from nwb_migvis.config import Config
    from nwb_migvis.config.commented import commented_toml

    click.echo(commented_toml(Config.from_preset(preset)), nl=False)


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion_command(shell: str) -> None:
    """Print what completes commands and options in SHELL; its first line says where to put it."""
    from click.shell_completion import get_completion_class

    from nwb_migvis.cli import cli

    kind = get_completion_class(shell)
    if kind is None:  # click knows the three
        raise click.UsageError(f"no completion for {shell}")
    where = {"bash": "~/.bashrc", "zsh": "~/.zshrc", "fish": "~/.config/fish/config.fish"}[shell]
    line = f'eval "$(nwb-migvis completion {shell})"'
    if shell == "fish":
        line = "nwb-migvis completion fish | source"
    click.echo(f"# add to {where}: {line}")
    click.echo(kind(cli, {}, "nwb-migvis", "_NWB_MIGVIS_COMPLETE").source())
