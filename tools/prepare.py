"""Look at a corpus: `python -m tools.prepare {inspect,validate,convert}` is `ariigcn {inspect,validate,convert}`.

`python -m tools.prepare features …` is `ariigcn features extract …`.
"""

import sys

from ariigcn_jax import cli

if __name__ == "__main__":
    given = sys.argv[1:]
    sys.exit(cli.main(["features", "extract", *given[1:]] if given[:1] == ["features"] else given))
