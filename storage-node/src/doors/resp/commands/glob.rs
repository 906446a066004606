//! Patterns for keys, as Redis matches them: `*`, `?`, `[abc]`, `[^a]`, `[a-z]` and `\` before
//! a character that is to mean itself.

/// Whether a text matches a pattern. Time grows with the product of their lengths at most.
pub fn matches(pattern: &[u8], text: &[u8]) -> bool {
    let (mut at, mut read) = (0, 0);
    // Where the last star stood, and where the text was then.
    let mut star: Option<(usize, usize)> = None;
    loop {
        let stepped = match pattern.get(at) {
            Some(b'*') => {
                at += 1;
                star = Some((at, read));
                continue;
            }
            Some(_) => text.get(read).and_then(|byte| one(pattern, at, *byte)),
            None if read == text.len() => return true,
            None => None,
        };
        match (stepped, star) {
            (Some(next), _) => {
                at = next;
                read += 1;
            }
            // The last star takes one more byte.
            (None, Some((after, from))) if from < text.len() => {
                star = Some((after, from + 1));
                at = after;
                read = from + 1;
            }
            (None, _) => return false,
        }
    }
}

/// Whether a byte matches the element at that place; where the next element is.
fn one(pattern: &[u8], at: usize, byte: u8) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => class(pattern, at + 1, byte),
        b'\\' => match pattern.get(at + 1) {
            Some(escaped) => (*escaped == byte).then_some(at + 2),
            None => (byte == b'\\').then_some(at + 1),
        },
        other => (other == byte).then_some(at + 1),
    }
}

fn class(pattern: &[u8], begin: usize, byte: u8) -> Option<usize> {
    let negated = pattern.get(begin) == Some(&b'^');
    let mut at = begin + usize::from(negated);
    let mut found = false;
    loop {
        match (pattern.get(at), pattern.get(at + 1), pattern.get(at + 2)) {
            // A class that is not closed reaches to the end.
            (None, ..) => break,
            (Some(b']'), ..) => {
                at += 1;
                break;
            }
            (Some(b'\\'), Some(escaped), _) => {
                found |= *escaped == byte;
                at += 2;
            }
            (Some(first), Some(b'-'), Some(last)) => {
                let (low, high) = (first.min(last), first.max(last));
                found |= (*low..=*high).contains(&byte);
                at += 3;
            }
            (Some(other), ..) => {
                found |= *other == byte;
                at += 1;
            }
        }
    }
    (found != negated).then_some(at)
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_match_as_in_redis() {
        for (pattern, text, wanted) in [
            ("*", "", true),
            ("", "", true),
            ("", "a", false),
            ("h?llo", "hello", true),
            ("h*llo", "heeeello", true),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hbllo", true),
            ("h[^e]llo", "hello", false),
            ("h[a-c]llo", "hbllo", true),
            ("h[c-a]llo", "hbllo", true),
            ("a\\*b", "a*b", true),
            ("a\\*b", "axb", false),
            ("*:1*:2", "u:1:1:2", true),
            ("*a*b*c", "xaybzc", true),
            ("*a*b*c", "xaybz", false),
            ("[abc", "b", true),
            ("a\\", "a\\", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), text.as_bytes()), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_do_not_take_for_ever() {
        assert!(!matches("a*".repeat(50).as_bytes(), &[b'a'; 49]));
        assert!(matches(&[b'*'; 1000], &[b'a'; 10_000]));
    }
}
