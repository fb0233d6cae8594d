"""The static site of one run: an index with the scorecard, each executed notebook, and sliders without a kernel.

Plain files in `results/<profile>/site/` that open from a disk as from a server, and ask nobody else for anything.

Pages: `index.html`, `<notebook>.html` for each executed notebook, and for each file of `course.site.interactive`
`temperature-<name>.html` or `landscape-<name>.html`. Ids that tests and links may rely on:

- index: sections #headline, #sliders, #lessons, #scorecard (rows #C1-image, ...), #figures (only without notebooks).
- every slider page: #temperature-value (an output, "T = 0.001"), buttons [data-exponent], #status (said to screen
  readers), #stored (the data).
- temperature page: the slider #temperature (its value is log10 T); #example (select), #example-picture or
  #example-sentence, #gradient; numbers #accuracy, #confidence, #ece, #nll, #wall-probability, #wall-gradient,
  #wall-zero, #wall-one-sided, #adversarial-accuracy; drawings (svg) #softmax, #reliability, #histogram, #walls,
  #accuracy-curve; button #preset-calibrated.
- landscape page: the slider #landscape-temperature; radio buttons #loss-cross-entropy, #loss-margin, #loss-dlr;
  #show-path; canvases #landscape-surface and #landscape-colourbar; drawings (svg) #landscape-overlay, #landscape-line;
  numbers #landscape-range, #landscape-flat, #colourbar-low, #colourbar-high, #colourbar-unit, #path-note.

All numbers come from `static/numbers.js`, whose functions take what is in #stored and can be called from a test.
"""

from __future__ import annotations

from robustlib.course.site.build import LARGEST_PAGE, build_site, main

__all__ = ["LARGEST_PAGE", "build_site", "main"]
