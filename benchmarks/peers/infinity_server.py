"""infinity's server, as its own command starts it: ``python -m peers.infinity_server v2 --model-id FOLDER ...``."""

from __future__ import annotations

from .clients import allow_torchvision


def main() -> None:
    """Run infinity's command."""
    allow_torchvision()
    from infinity_emb.cli import cli

    cli()


if __name__ == "__main__":
    main()
