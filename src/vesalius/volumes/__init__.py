"""Anatomy in voxels: images and label maps, their geometry, their regions, and the store of prepared cases."""
