"""What every stage does with its output: folders, files, seeds, threads."""
