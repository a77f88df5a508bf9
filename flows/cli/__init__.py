"""The command line. Imports nothing heavy until a command runs, so that help answers at once.

Every file of this folder adds its commands to the application; a new file is found by `main`.
"""
