"""Choice among trained arms without the test split: on validation data, or without any label.

The members and weights of ensembles are chosen here too.
"""
