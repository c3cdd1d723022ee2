// The token: from the address (behind '#token=', which no server ever sees), or typed in. It stays in this tab.

const KEY = "isthmus-token";

export function tokenFromAddress() {
  const said = new URLSearchParams(location.hash.slice(1)).get("token");
  if (said) {
    sessionStorage.setItem(KEY, said);
    history.replaceState(null, "", location.pathname + location.search);
  }
}

export function token() {
  return sessionStorage.getItem(KEY);
}

export function setToken(value) {
  if (value) sessionStorage.setItem(KEY, value);
  else sessionStorage.removeItem(KEY);
}

export function headers(more = {}) {
  const known = token();
  return known ? { ...more, Authorization: `Bearer ${known}` } : more;
}

// What this tab may do: {read, steer, token: whether the dashboard has one at all}.
export async function rights() {
  const answer = await fetch("api/access", { headers: headers() });
  if (!answer.ok) throw new Error(await answer.text());
  return answer.json();
}
