# SPDX-License-Identifier: Apache-2.0
"""What goes wrong because of what the user gave."""


class InputError(ValueError):
    """A file, argument or array from the user is wrong; the message is one sentence for the user.

    The command line prints the message without a traceback and exits with 2.
    """
