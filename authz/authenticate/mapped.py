"""Users of another source who are authz's own users of that name (`map_users: true`)."""

from authz.authenticate.jwt_subject import with_records
from authz.authenticate.protocol import Refused
from authz.reason import Reason
from authz.store.protocols import Directory
from authz.subject import Subject

_DISABLED = Refused(Reason.USER_DISABLED)


def mapped(subject: Subject, directory: Directory) -> Subject | Refused:
    """The subject with what our own table says of its user, as of now."""
    user = directory.user(subject.user)
    if user is not None and user.disabled:
        return _DISABLED
    team_name = subject.team or (user.team if user is not None else None)
    team = directory.team(team_name) if team_name else None
    return with_records(subject, user, team_name, team)
