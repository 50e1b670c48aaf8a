"""Reports of what the stages wrote: drawings, figures and pages. They read files only.

Importing this package loads nothing; its modules need matplotlib (the extra ``report``).
"""
