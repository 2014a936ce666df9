//! A published file brought to a folder: whole and with the right sum, or not at all.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use sha2::{Digest, Sha256};
use ureq::{Agent, Proxy};

use super::Published;
use crate::{Error, Result};

/// The longest that finding and reaching a server may take, each.
const CONNECT: Duration = Duration::from_secs(30);
/// The longest silence of a server.
const IDLE: Duration = Duration::from_secs(30);
/// Time between two looks at whether to stop.
const GLANCE: Duration = Duration::from_millis(100);
/// The most bytes of a file whose length is not known.
const LIMIT: u64 = 1 << 30;
/// Bytes that are taken at a time.
const PART: usize = 1 << 16;

/// Brings a published file to `folder`, which is made where it lacks, and returns its path.
///
/// A file that is there with the right sum is taken as it is, without a word to the network. What
/// is downloaded goes to a temporary file in the same folder and gets its name when its SHA-256 is
/// right; until then nothing has that name. `progress` is told how many bytes came, and of how
/// many, where that is known. The environment's `ALL_PROXY`, `HTTPS_PROXY`, `HTTP_PROXY` and
/// `NO_PROXY` are followed. Once `stop` is set, what has begun is broken off.
///
/// # Errors
/// [`Error::Checkpoint`] for a file of that name, or an answer, with another sum;
/// [`Error::Data`] when the address does not answer, answers otherwise than with the file, breaks
/// off, or sends too much; [`Error::Failed`] when interrupted; [`Error::Io`] of the folder.
pub fn fetch(
    published: &Published,
    folder: &Path,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<PathBuf> {
    let agent = agent(published, Proxy::try_from_env());
    fetch_by(&agent, published, folder, stop, progress)
}

/// What makes the request: encrypted to the end where the address says so.
fn agent(published: &Published, proxy: Option<Proxy>) -> Agent {
    Agent::config_builder()
        .http_status_as_error(false)
        .https_only(published.url.starts_with("https://"))
        .proxy(proxy)
        .user_agent(concat!("vermeer/", env!("CARGO_PKG_VERSION")))
        .accept_encoding("identity")
        .timeout_resolve(Some(CONNECT))
        .timeout_connect(Some(CONNECT))
        .timeout_per_read(Some(IDLE))
        .timeout_per_write(Some(IDLE))
        .build()
        .new_agent()
}

fn fetch_by(
    agent: &Agent,
    published: &Published,
    folder: &Path,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<PathBuf> {
    let place = folder.join(published.file);
    let there = place
        .try_exists()
        .map_err(|error| Error::io(&place, error))?;
    if there {
        return match sum_of(&place)? {
            sum if sum == published.sha256 => Ok(place),
            sum => Err(Error::checkpoint(
                place,
                format!(
                    "its SHA-256 is {sum}, and that of {} is {}",
                    published.url, published.sha256
                ),
                "remove or rename the file, or choose another folder",
            )),
        };
    }
    let outcome = thread::scope(|scope| {
        // The sender goes away with this block, however that ends, and the watch with it.
        let (_over, over) = mpsc::channel::<()>();
        let watched = agent.clone();
        scope.spawn(move || watch(watched, stop, &over));
        download(agent, published, &place, folder, stop, progress)
    });
    match outcome {
        // The error of a connection that was broken off says less.
        Err(_) if stop.load(Ordering::Relaxed) => Err(interrupted()),
        outcome => outcome.map(|()| place),
    }
}

/// Closes the connections of `agent` once `stop` is set; ends when the other end of `over` is
/// dropped.
fn watch(agent: Agent, stop: &AtomicBool, over: &Receiver<()>) {
    while over.recv_timeout(GLANCE) == Err(RecvTimeoutError::Timeout) {
        if stop.load(Ordering::Relaxed) {
            agent.shutdown();
            return;
        }
    }
}

fn download(
    agent: &Agent,
    published: &Published,
    place: &Path,
    folder: &Path,
    stop: &AtomicBool,
    progress: &mut dyn FnMut(u64, Option<u64>),
) -> Result<()> {
    let response = agent
        .get(published.url)
        .call()
        .map_err(|error| unfetched(published, format!("it cannot be fetched: {error}")))?;
    let status = response.status();
    if status.as_u16() != 200 {
        return Err(unfetched(published, format!("the server answers {status}")));
    }
    let mut body = response.into_body();
    let announced = body.content_length();
    let limit = published.bytes.unwrap_or(LIMIT);
    if announced.is_some_and(|bytes| bytes > limit) {
        return Err(too_long(published, limit));
    }
    let all = announced.or(published.bytes);

    fs::create_dir_all(folder).map_err(|error| Error::io(folder, error))?;
    // Unlike other temporary files this one is to be read by whoever may read what is made here.
    let mut file = tempfile::Builder::new()
        .prefix(".vermeer-")
        .make_in(folder, |path| File::create_new(path))
        .map_err(|error| Error::io(folder, error))?;
    let mut reader = body.as_reader();
    let mut sum = Sha256::new();
    let mut part: Vec<u8> = vec![0; PART];
    let mut done: u64 = 0;
    loop {
        if stop.load(Ordering::Relaxed) {
            return Err(interrupted());
        }
        let n = reader.read(&mut part).map_err(|error| {
            unfetched(
                published,
                format!("it broke off after {done} bytes: {error}"),
            )
        })?;
        if n == 0 {
            break;
        }
        done += n as u64;
        if done > limit {
            return Err(too_long(published, limit));
        }
        sum.update(&part[..n]);
        file.write_all(&part[..n])
            .map_err(|error| Error::io(place, error))?;
        progress(done, all);
    }
    let sum = format!("{:x}", sum.finalize());
    if sum != published.sha256 {
        return Err(Error::checkpoint(
            published.url,
            format!(
                "the SHA-256 of the {done} bytes that came is {sum} instead of {}",
                published.sha256
            ),
            "try again; if the sum stays, something on the way or the publisher changed the file",
        ));
    }
    file.as_file()
        .sync_all()
        .map_err(|error| Error::io(place, error))?;
    file.persist(place)
        .map_err(|error| Error::io(place, error.error))?;
    Ok(())
}

/// The SHA-256 of a file in hexadecimal.
fn sum_of(path: &Path) -> Result<String> {
    let mut file = File::open(path).map_err(|error| Error::io(path, error))?;
    let mut sum = Sha256::new();
    std::io::copy(&mut file, &mut sum).map_err(|error| Error::io(path, error))?;
    Ok(format!("{:x}", sum.finalize()))
}

fn unfetched(published: &Published, reason: String) -> Error {
    Error::data(
        published.url,
        reason,
        "try again, or download the file by hand from this address and name it with --weights",
    )
}

fn too_long(published: &Published, limit: u64) -> Error {
    unfetched(
        published,
        format!("the server sends more than the {limit} bytes that the file may have"),
    )
}

fn interrupted() -> Error {
    Error::Failed("interrupted; nothing was written".into())
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;

    /// The SHA-256 of "abc": FIPS 180-2, appendix B.1.
    const ABC: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    /// The address of a server that answers one request and then listens no longer. If it `stays`,
    /// it leaves the connection open until the client closes it.
    fn serve(answer: &str, stays: bool) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/abc.pth", listener.local_addr().unwrap());
        let answer = answer.to_owned();
        thread::spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            drop(listener);
            let mut stream = BufReader::new(stream);
            let mut line = String::new();
            // The request ends with an empty line.
            while stream.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            // A client that has heard enough may be gone.
            let _ = stream.get_mut().write_all(answer.as_bytes());
            if stays {
                let _ = stream.read_line(&mut line);
            }
        });
        url
    }

    /// A file "abc" at an address.
    fn abc(url: String) -> Published {
        Published {
            id: "abc",
            purpose: "tests",
            url: url.leak(),
            file: "abc.pth",
            sha256: ABC,
            bytes: Some(3),
            licence: "none",
            usage: "{abc}",
        }
    }

    /// [`fetch`], without the proxy that this machine may have.
    fn direct(
        published: &Published,
        folder: &Path,
        stop: &AtomicBool,
        progress: &mut dyn FnMut(u64, Option<u64>),
    ) -> Result<PathBuf> {
        let agent = agent(published, None);
        fetch_by(&agent, published, folder, stop, progress)
    }

    /// Names in a folder; none where there is no folder.
    fn names(folder: &Path) -> Vec<String> {
        fs::read_dir(folder).map_or(vec![], |entries| {
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        })
    }

    #[test]
    fn a_file_arrives_and_is_not_asked_for_again() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("new/weights");
        let go_on = AtomicBool::new(false);
        let published = abc(serve(
            "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc",
            false,
        ));
        let mut last = (0, None);
        let path = direct(&published, &folder, &go_on, &mut |done, all| {
            last = (done, all);
        })
        .unwrap();
        assert_eq!(path, folder.join("abc.pth"));
        assert_eq!(fs::read(&path).unwrap(), b"abc");
        assert_eq!(last, (3, Some(3)));
        assert_eq!(names(&folder), ["abc.pth"]);

        // The server is gone: a second request would fail.
        let again = direct(&published, &folder, &go_on, &mut |_, _| {
            panic!("nothing is downloaded")
        });
        assert_eq!(again.unwrap(), path);
    }

    #[test]
    fn a_file_of_another_sum_is_not_touched() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("abc.pth");
        fs::write(&path, b"abd").unwrap();
        let published = abc("http://127.0.0.1:9/abc.pth".to_owned());
        let go_on = AtomicBool::new(false);
        let error = direct(&published, folder.path(), &go_on, &mut |_, _| {}).unwrap_err();
        let text = error.to_string();
        assert!(text.contains("abc.pth") && text.contains(ABC), "{text}");
        assert!(error.remedy().unwrap().contains("remove"));
        assert_eq!(error.exit_code(), 4);
        assert_eq!(fs::read(&path).unwrap(), b"abd");
    }

    #[test]
    fn whatever_is_not_the_file_leaves_nothing() {
        for (answer, part) in [
            // The SHA-256 of "abd", by coreutils' sha256sum.
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabd",
                "a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9",
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab",
                "broke off after 2 bytes",
            ),
            // Without a length an early end looks like the end.
            ("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nab", ABC),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabcd",
                "more than the 3 bytes",
            ),
            (
                "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcd",
                "more than the 3 bytes",
            ),
            (
                "HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nabc",
                "404 Not Found",
            ),
            ("SSH-2.0-x\r\n\r\n", "cannot be fetched"),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let published = abc(serve(answer, false));
            let go_on = AtomicBool::new(false);
            let error = direct(&published, folder.path(), &go_on, &mut |_, _| {}).unwrap_err();
            let text = error.to_string();
            assert!(text.contains(published.url), "{answer}: {text}");
            assert!(text.contains(part), "{answer}: {text}");
            assert!(error.remedy().is_some(), "{answer}");
            assert_eq!(error.exit_code(), 4, "{answer}");
            assert!(names(folder.path()).is_empty(), "{answer}");
        }
    }

    #[test]
    fn a_server_that_is_not_there_is_named_with_a_way_out() {
        let folder = tempfile::tempdir().unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/abc.pth", free.local_addr().unwrap());
        drop(free);
        let published = abc(url);
        let go_on = AtomicBool::new(false);
        let error = direct(&published, folder.path(), &go_on, &mut |_, _| {}).unwrap_err();
        assert!(error.to_string().contains(published.url), "{error}");
        assert!(error.remedy().unwrap().contains("--weights"));
        assert!(names(folder.path()).is_empty());
    }

    #[test]
    fn a_stop_breaks_off_even_a_silent_server() {
        for answer in ["", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nab"] {
            let folder = tempfile::tempdir().unwrap();
            let published = abc(serve(answer, true));
            let stop = AtomicBool::new(false);
            let begun = Instant::now();
            let error = thread::scope(|scope| {
                scope.spawn(|| {
                    thread::sleep(2 * GLANCE);
                    stop.store(true, Ordering::Relaxed);
                });
                direct(&published, folder.path(), &stop, &mut |_, _| {}).unwrap_err()
            });
            assert!(error.to_string().contains("interrupted"), "{error}");
            assert!(begun.elapsed() < IDLE / 2, "{answer}");
            assert!(names(folder.path()).is_empty(), "{answer}");
        }
    }
}
