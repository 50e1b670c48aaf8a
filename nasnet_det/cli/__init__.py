"""The command ``nasnet-det``: every verb is a function of a package, and a screen here.

No module imports a library before its verb runs, so that help and completion are quick.
"""
