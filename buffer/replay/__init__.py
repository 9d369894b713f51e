"""Which item a batch takes next, and which one a full table gives up."""
