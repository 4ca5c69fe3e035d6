"""`engram view`: a read-only web application over a store, for one's own browser.

It has no way to write: only GET and HEAD exist, and the index is opened for reading alone. Pages
are answered from the index, the page of one run or target also from its own folder. Everything in
a store is untrusted here: texts are escaped, shortened and isolated, and no script but ours runs.
"""

from engram.web.app import create_app

__all__ = ["create_app"]
