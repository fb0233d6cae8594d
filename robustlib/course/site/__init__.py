"""The static site of one run: an index with the scorecard, each executed notebook, and sliders without a kernel.

Plain files that ask nobody for anything; `static/numbers.js` computes from what a page stores in #stored.
"""

from robustlib.course.site.build import build_site, main
