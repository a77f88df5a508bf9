"""Networks, their files, and what turns raw items into class probabilities with them.

Parameter transfer and the merging of networks live here too.
"""
