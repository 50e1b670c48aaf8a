"""Data sets as people have them: annotations and pictures, each read in one place."""
