//! The terminal: the picture full screen, keys, and the terminal as it was whatever ends the program.

use std::io::{self, IsTerminal, Write, stdout};
use std::time::Duration;

use ratatui::Terminal;
use ratatui::backend::CrosstermBackend;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::crossterm::terminal::{
    EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode,
};
use ratatui::crossterm::{cursor, execute};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::{Line as TextLine, Span, Text};
use rustix::process::{Signal, getpid, kill_process};
use tokio::sync::mpsc::Sender;

use super::guard::Guard;
use super::picture::{Picture, Tone};

/// How often the keys' thread looks whether anybody still wants to hear.
const LOOK: Duration = Duration::from_millis(500);

/// What the user wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// To leave.
    Quit,
    /// To hold the picture or go on.
    Hold,
    /// Earlier.
    Back,
    /// Later.
    Forward,
    /// More time in a cell.
    Longer,
    /// Less.
    Shorter,
    /// Another part.
    Pane,
    /// To save the picture.
    Save,
    /// The keys explained.
    Help,
    /// The window has another size.
    Resize,
    /// To go to the background (Ctrl-Z).
    Suspend,
}

/// The screen while it is ours. Dropped, it is as it was.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<io::Stdout>>,
    colours: bool,
    _guard: Guard,
}

impl Screen {
    /// Takes the screen.
    ///
    /// # Errors
    /// When stdout is no terminal, or it can't be set.
    pub fn take(colours: bool) -> io::Result<Self> {
        if !stdout().is_terminal() {
            return Err(io::Error::other("stdout is no terminal: use --once or --json"));
        }
        let guard = Guard::start()?;
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            give_back();
            before(panic);
        }));
        enter()?;
        Ok(Self { terminal: Terminal::new(CrosstermBackend::new(stdout()))?, colours, _guard: guard })
    }

    /// Columns and lines.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn size(&self) -> io::Result<(usize, usize)> {
        let size = self.terminal.size()?;
        Ok((size.width.into(), size.height.into()))
    }

    /// Shows a picture; only what is different is written.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn show(&mut self, picture: &Picture) -> io::Result<()> {
        let colours = self.colours;
        let lines = picture.lines.iter().map(|line| {
            let spans = line.0.iter().map(|run| Span::styled(run.text.as_str(), style(run.tone, colours)));
            TextLine::from(spans.collect::<Vec<_>>())
        });
        let text = Text::from(lines.collect::<Vec<_>>());
        self.terminal.draw(|frame| frame.render_widget(text, frame.area())).map(drop)
    }

    /// On SIGTSTP (or Ctrl-Z) gives the screen back and stops this program; takes the screen again when it goes on, on
    /// SIGCONT too.
    ///
    /// # Errors
    /// When the terminal is gone.
    pub fn suspend_on(&mut self, signal: i32) -> io::Result<()> {
        if signal == libc::SIGTSTP {
            give_back();
            // SIGTSTP itself is caught. The shell's `fg` continues us right here.
            kill_process(getpid(), Signal::STOP)?;
        }
        enter()?;
        self.terminal.clear()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        give_back();
    }
}

fn enter() -> io::Result<()> {
    enable_raw_mode()?;
    execute!(stdout(), EnterAlternateScreen, cursor::Hide)
}

/// The terminal as it was. What fails here fails because the terminal is gone.
fn give_back() {
    let _ = disable_raw_mode();
    let _ = execute!(stdout(), LeaveAlternateScreen, cursor::Show);
    let _ = stdout().flush();
}

/// The 16 colours that every terminal has; without colours, bold and reverse say what is bad.
fn style(tone: Tone, colours: bool) -> Style {
    let plain = Style::default();
    match (tone, colours) {
        (Tone::Plain, _) => plain,
        (Tone::Bold, _) => plain.add_modifier(Modifier::BOLD),
        (Tone::Bad, false) => plain.add_modifier(Modifier::BOLD),
        (Tone::Dim | Tone::Good | Tone::Warn, false) => plain,
        (Tone::Dim, true) => plain.fg(Color::DarkGray),
        (Tone::Good, true) => plain.fg(Color::Green),
        (Tone::Warn, true) => plain.fg(Color::Yellow),
        (Tone::Bad, true) => plain.fg(Color::Red).add_modifier(Modifier::BOLD),
    }
}

/// Reads keys on a thread of its own, as reading blocks, until nobody wants to hear.
///
/// # Errors
/// When there are no more threads.
pub fn keys(tell: Sender<Key>) -> io::Result<()> {
    let read = move || {
        while !tell.is_closed() {
            match event::poll(LOOK) {
                Ok(true) => {}
                Ok(false) => continue,
                Err(_) => return,
            }
            let Ok(event) = event::read() else { return };
            if let Some(key) = key(&event)
                && tell.blocking_send(key).is_err()
            {
                return;
            }
        }
    };
    std::thread::Builder::new().name("keys".into()).stack_size(256 << 10).spawn(read).map(drop)
}

fn key(event: &Event) -> Option<Key> {
    let pressed = match event {
        Event::Resize(..) => return Some(Key::Resize),
        Event::Key(pressed) if pressed.kind != KeyEventKind::Release => pressed,
        _ => return None,
    };
    let control = pressed.modifiers.contains(KeyModifiers::CONTROL);
    match pressed.code {
        KeyCode::Char('c') if control => Some(Key::Quit),
        KeyCode::Char('z') if control => Some(Key::Suspend),
        KeyCode::Char('l') if control => Some(Key::Resize),
        _ if control => None,
        KeyCode::Char('q') | KeyCode::Esc => Some(Key::Quit),
        KeyCode::Char(' ') => Some(Key::Hold),
        KeyCode::Left => Some(Key::Back),
        KeyCode::Right => Some(Key::Forward),
        KeyCode::Char('+' | '=') => Some(Key::Longer),
        KeyCode::Char('-') => Some(Key::Shorter),
        KeyCode::Tab => Some(Key::Pane),
        KeyCode::Char('w') => Some(Key::Save),
        KeyCode::Char('?' | 'h') => Some(Key::Help),
        _ => None,
    }
}
