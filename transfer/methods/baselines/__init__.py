"""What transfer has to beat: training without a source, and a source without adaptation.

A file's name is the method's key in the settings.
"""
