//! What a program says on its standard error, for when it does not start.

use std::{
    fs::File,
    io::{self, Read as _},
    process::Command,
};

use crate::folder::Folder;

/// Most bytes that are passed on.
const MOST: u64 = 4096;

/// A file without a name: no program waits until it is read, and it goes with who has it open.
#[derive(Debug)]
pub(crate) struct Said(File);

impl Said {
    /// Lets `command` say there what it has to say.
    pub(crate) fn by(command: &mut Command) -> io::Result<Self> {
        let folder = Folder::new("said")?;
        let file = folder.join("said");
        command.stderr(File::create(&file)?);
        File::open(file).map(Self)
    }

    /// What was said so far, from its beginning.
    pub(crate) fn told(self) -> String {
        let mut bytes = Vec::new();
        // Nothing can be told of what cannot be read.
        let _ = self.0.take(MOST).read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).trim().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_program_says_is_told_in_part_if_it_is_much() {
        let said = |script: &str| {
            let mut command = Command::new("sh");
            let said = Said::by(command.args(["-c", script])).unwrap();
            command.status().unwrap();
            said.told()
        };
        assert_eq!(said("echo '  no port ' >&2; echo more >&2"), "no port \nmore");
        assert_eq!(said("true"), "");
        assert_eq!(said("head -c 9000 /dev/zero >&2").len(), 4096);
    }
}
