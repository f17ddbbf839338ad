"""The SIP leg: pjsua2 behind one small package; nothing outside it sees a pjsua2 object."""
