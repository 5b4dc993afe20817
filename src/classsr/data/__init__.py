"""From a folder of pictures to ranked training patches: pairs -> patches -> ranking -> dataset."""
