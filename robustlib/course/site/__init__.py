"""The static site of one run: an index with the scorecard, each executed notebook, and sliders without a kernel.

Plain files in `results/<profile>/site/` that open from a disk as from a server, and ask nobody else for anything.
All numbers come from `static/numbers.js`, whose functions take what a page stores in #stored.
"""

from robustlib.course.site.build import LARGEST_PAGE, build_site, main

__all__ = ["LARGEST_PAGE", "build_site", "main"]
