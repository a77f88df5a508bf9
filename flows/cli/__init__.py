"""The command line. Imports nothing heavy until a command runs, so that help is shown at once.

Every file of this folder adds its commands to the application; `main` finds a new file by itself.
"""
