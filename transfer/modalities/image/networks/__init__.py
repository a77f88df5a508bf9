"""What several backbones share: the input of ImageNet networks, their blocks, their weights.

Nothing here is a backbone by itself.
"""
