"""Reports of detectors: how good, where they fail, what they cost, and what made them.

Reading order: ``run_folder.py`` (what a training and an evaluation left behind), ``boxes.py`` (true
and found boxes as arrays), ``matches.py`` (which belong together), ``scores.py`` (AP and AR),
``intervals.py``, ``errors.py``, ``calibration.py``, ``reported_run.py`` (all of one run together),
``summary.py`` (what ``report.json`` says), ``tables.py``, then figures, the page and Markdown.
"""
