"""Architecture search: the space, the controller and its learning, and the samplers.

Importing this package loads nothing; ``samplers`` alone needs Optuna (the extra ``search``).
"""
