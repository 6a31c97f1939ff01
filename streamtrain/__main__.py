"""`python -m streamtrain`: the same as the `streamtrain` command."""

from streamtrain.cli import main

if __name__ == "__main__":
    main()
