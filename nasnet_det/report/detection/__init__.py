"""Reports of detectors: how good, where they fail, what they cost, and what made them.

Reading order: ``run_folder.py`` (what a training and an evaluation left behind), ``boxes.py`` (true
and found boxes as arrays), ``matches.py`` (which belong together), ``scores.py`` (AP and AR),
``intervals.py``, ``errors.py``, ``calibration.py``, then figures, pictures and pages.
"""
