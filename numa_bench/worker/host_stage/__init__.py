"""Host work on every batch before its copy: images, the threads that prepare them, the feeds."""
