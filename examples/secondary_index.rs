//! A secondary index: users by their number, and also by their town and by their mail address.
//!
//! An index is a keyspace of its own. In that of the towns a key is the town and the user's number
//! behind it, since many may live in one; the values are empty. A user and what the indexes say of him
//! change in one transaction, so that no reader and no crash finds one without the other. A mail
//! address is unique: of two users who want the same one at the same time, one gets it.

use alluvium::{Db, Keyspace, KeyspaceOptions, Result, Slice};

struct Users {
    db: Db,
    /// Number: mail address, end, town.
    users: Keyspace,
    /// Town, end, number: nothing.
    by_town: Keyspace,
    /// Mail address: number.
    by_mail: Keyspace,
}

/// Ends a text inside a key, so that no town is the beginning of another one.
const END: u8 = 0;

fn town_key(town: &[u8], user: u64) -> Vec<u8> {
    [town, &[END], &user.to_be_bytes()].concat()
}

/// Mail address and town.
fn parts(user: &Slice) -> (Vec<u8>, Vec<u8>) {
    let end = user.iter().position(|byte| *byte == END);
    let (mail, town) = user.split_at(end.expect("it was written with one"));
    (mail.to_vec(), town[1..].to_vec())
}

impl Users {
    fn open(db: Db) -> Result<Users> {
        let keyspace = |name| db.keyspace(name, KeyspaceOptions::new());
        Ok(Users {
            users: keyspace("users")?,
            by_town: keyspace("users by town")?,
            by_mail: keyspace("users by mail")?,
            db,
        })
    }

    /// Writes a user, new or moved; false when somebody else has the address.
    fn set(&self, user: u64, mail: &str, town: &str) -> Result<bool> {
        self.db.transaction(|tx| {
            let holder = tx.get(&self.by_mail, mail)?;
            if holder.is_some_and(|holder| holder != user.to_be_bytes()) {
                return Ok(false);
            }
            if let Some(before) = tx.get(&self.users, user.to_be_bytes())? {
                let (mail, town) = parts(&before);
                tx.delete(&self.by_mail, mail);
                tx.delete(&self.by_town, town_key(&town, user));
            }
            let entry = [mail.as_bytes(), &[END], town.as_bytes()].concat();
            tx.put(&self.users, user.to_be_bytes(), entry);
            tx.put(&self.by_mail, mail, user.to_be_bytes());
            tx.put(&self.by_town, town_key(town.as_bytes(), user), "");
            Ok(true)
        })
    }

    fn of_mail(&self, mail: &str) -> Result<Option<u64>> {
        let user = self.by_mail.get(mail)?;
        Ok(user.map(|user| u64::from_be_bytes(user[..].try_into().expect("eight bytes"))))
    }

    fn of_town(&self, town: &str) -> Result<Vec<u64>> {
        let entries = self.by_town.prefix([town.as_bytes(), &[END]].concat());
        let user = |key: Slice| key.last_chunk().map(|user| u64::from_be_bytes(*user));
        entries
            .map(|entry| Ok(user(entry?.0).expect("a number ends it")))
            .collect()
    }

    /// Everything that the indexes say is so, and they say everything: seen at one instant.
    fn check(&self) -> Result<usize> {
        let now = self.db.snapshot();
        let (by_town, by_mail) = (now.keyspace(&self.by_town), now.keyspace(&self.by_mail));
        let mut count = 0;
        for entry in now.keyspace(&self.users).iter() {
            let (number, user) = entry?;
            let (mail, town) = parts(&user);
            let key = [&town[..], &[END], &number].concat();
            assert!(by_town.get(key)?.is_some());
            assert_eq!(by_mail.get(mail)?.as_ref(), Some(&number));
            count += 1;
        }
        assert_eq!(
            (by_town.iter().count(), by_mail.iter().count()),
            (count, count)
        );
        Ok(count)
    }
}

fn main() -> Result<()> {
    let directory = std::env::temp_dir().join(format!("secondary-index-{}", std::process::id()));
    let users = Users::open(Db::open(&directory)?)?;
    const TOWNS: [&str; 4] = ["Ulm", "Ulmen", "Basel", "Graz"];
    for user in 0..400u64 {
        assert!(users.set(
            user,
            &format!("u{user}@example.org"),
            TOWNS[user as usize % 4]
        )?);
    }
    assert!(
        !users.set(7, "u8@example.org", "Graz")?,
        "that is somebody else's"
    );

    // Everybody moves, and somebody looks on.
    std::thread::scope(|scope| -> Result<()> {
        let moves = scope.spawn(|| -> Result<()> {
            for user in 0..400u64 {
                let town = TOWNS[(user as usize + 1) % 4];
                assert!(users.set(user, &format!("u{user}@example.org"), town)?);
            }
            Ok(())
        });
        while !moves.is_finished() {
            assert_eq!(users.check()?, 400);
        }
        moves.join().expect("it has not panicked")
    })?;

    let in_ulm = users.of_town("Ulm")?;
    assert_eq!(in_ulm.len(), 100, "and nobody of Ulmen");
    assert!(in_ulm.contains(&3));
    assert_eq!(users.of_mail("u3@example.org")?, Some(3));
    println!(
        "{} users, of whom {} live in Ulm",
        users.check()?,
        in_ulm.len()
    );
    let Users { db, .. } = users;
    db.close()?;
    Db::destroy(&directory)
}
