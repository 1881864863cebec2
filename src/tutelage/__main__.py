"""``python -m tutelage`` is the ``tutelage`` command."""

from tutelage.cli.__main__ import main

main()
